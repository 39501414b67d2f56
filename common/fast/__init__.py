"""The same numbers, faster: what is here has a plain twin that it must equal."""
