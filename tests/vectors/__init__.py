"""Tables as every command reads them."""
