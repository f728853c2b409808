"""The carrier Bandwidth, by its StartStream, both ways."""
