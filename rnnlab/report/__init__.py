"""Tables, sentences, figures and files. Reads records, knows no cells; the only place that draws."""
