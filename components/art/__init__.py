"""Real art: openly licensed families of pictograms, each by its own artist, as pictures with concept, role, licence and author."""
