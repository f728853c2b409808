"""Which calls there are, who may have them, and what they may take."""
