"""The HTML page of a run: one file that can be read offline, with figures by plotly."""
