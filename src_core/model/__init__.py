"""The networks: Segment Anything, its relatives, and nano."""
