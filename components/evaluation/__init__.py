"""From images to numbers: features, metrics, intervals, comparisons and reports."""
