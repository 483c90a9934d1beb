"""What makes and checks the files for deployment. Not part of the package."""
