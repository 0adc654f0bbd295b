"""Pages of `zoo demo`, in a real browser too."""
