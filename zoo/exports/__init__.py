"""The address that published repositories import from: their few lines of Python say `from zoo.exports.automodel import …`.

It stays where it is for ever, whatever is moved inside the zoo; the classes themselves are in `zoo.publishing.exports`.
"""
