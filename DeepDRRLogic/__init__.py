"""DeepDRR for 3D Slicer: realistic X-ray images from CT, without Slicer."""
