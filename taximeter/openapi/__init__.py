"""What we serve, said in OpenAPI 3.1: made from the classes and closed lists of the code, shown by a page of its own."""
