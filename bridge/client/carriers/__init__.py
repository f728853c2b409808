"""The other end of each carrier: what ``bridge call --as NAME`` plays, one file a carrier."""
