"""From images to style sets: manifest, validation, roles, split, auxiliary images."""
