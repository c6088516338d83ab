"""The HTML page of a run: one file that needs no network, with figures by plotly."""
