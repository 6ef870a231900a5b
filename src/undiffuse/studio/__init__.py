"""The studio: a page in the browser on which pictures are drawn. Needs the extra `undiffuse[studio]`."""
