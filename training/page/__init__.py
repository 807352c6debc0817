"""The page of an evaluation, `radscribe evaluate --html`."""
