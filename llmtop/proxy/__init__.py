"""Passes requests on to any OpenAI server and measures each one."""
