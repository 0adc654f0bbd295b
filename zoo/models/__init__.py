"""Model families: one short file each, found by being here."""
