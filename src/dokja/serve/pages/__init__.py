"""What a person sees in a browser: the chat page and the runs page (nicegui; every asset comes from this machine)."""
