"""What many vectors say together: labels for them, what is there twice, groups with names, and files for other programs."""

from zoo.vectors.classifying import Classified, check_labels, classify, label_vectors
from zoo.vectors.clustering import Cluster, find_clusters, middle_names, name_clusters, vocabulary
from zoo.vectors.duplicates import Copy, Group, check_threshold, find_duplicates
from zoo.vectors.exporting import Exported, check_export, export_vectors
from zoo.vectors.opening import Vectors, open_vectors

__all__ = [
    "Classified",
    "Cluster",
    "Copy",
    "Exported",
    "Group",
    "Vectors",
    "check_export",
    "check_labels",
    "check_threshold",
    "classify",
    "export_vectors",
    "find_clusters",
    "find_duplicates",
    "label_vectors",
    "middle_names",
    "name_clusters",
    "open_vectors",
    "vocabulary",
]
