"""What is served: versions found, loaded and swapped, the file that serves each, its runs in their order."""
