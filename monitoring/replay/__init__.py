"""Traffic from a folder of captioned images, with a drift of your choice: try your own alarms."""
