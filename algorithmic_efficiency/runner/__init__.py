"""Running trials: the clock, the rules, the loop and the study around them."""
