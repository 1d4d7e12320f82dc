"""How good a segmentation is: metrics, data sets, label mapping, reports."""
