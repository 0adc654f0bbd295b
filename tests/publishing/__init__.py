"""Cards, certificates, exports, `zoo publish`."""
