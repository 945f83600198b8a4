"""The chat formats of the published EXAONE generations, one file each (architectures: reference, section 6)."""
