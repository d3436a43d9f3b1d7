"""HTTP for both faces: waitress, and the WSGI wrappers that node and hub need alike. Never knows what is served."""
