"""The napari plugin: Segment Anything for microscopy volumes."""
