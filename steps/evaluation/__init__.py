"""From images to scores and a report."""
