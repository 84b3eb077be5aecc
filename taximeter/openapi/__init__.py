"""What we serve, said in OpenAPI 3.1: from the classes and closed lists of the code; and a page that shows it."""
