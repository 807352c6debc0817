"""The Hub Space: the page of `radscribe app`, whose package lies beside this file (docs/serving.md)."""

from radscribe.training.app import serve

serve()
