"""From a CSV file and its pictures to products: `service.import_catalogue` tells the story."""
