"""Vector databases: data, truth and recall, and the engines that search in them."""
