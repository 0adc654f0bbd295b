"""What a stranger's checkpoint is held to before it takes memory or runs anything, whatever its layout.

`folder` looks over the files once for each folder that is opened (`layout.open_with` asks it), `inside` says where they may lie,
`schema` holds our own configuration, `sizes` the weights, `strict` their names, and `probing` tries what was built on no memory.
"""
