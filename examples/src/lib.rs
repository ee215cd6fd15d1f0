//! Programs that use the graph API: see the files beside this folder.
