"""Making somebody else believe us: the report and the model card, both pure readers of a run folder."""
