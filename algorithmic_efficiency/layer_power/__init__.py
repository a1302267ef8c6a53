"""Power and runtime layer by layer: measuring them, data sets of them, predicting a network's."""
