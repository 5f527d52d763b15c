"""What people read: PNG figures (`figures`), text tables (`text`), and the HTML report."""
