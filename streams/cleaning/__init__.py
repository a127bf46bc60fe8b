"""The cleaning rules of a mapping: corrections, thresholds, outliers."""
