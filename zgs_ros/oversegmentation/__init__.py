"""From an image to segments without names: DINO features, a tree of clusters, pixel refinement."""
