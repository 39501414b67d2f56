"""The same numbers, sooner: what is here has a plain twin that it must equal."""
