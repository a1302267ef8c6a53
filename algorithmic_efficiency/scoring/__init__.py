"""Which submission reaches the targets soonest: from folders of logs to scores with intervals."""
