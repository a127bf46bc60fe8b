"""`tillstream import`: files and queries into the topic, whole receipts at a time, again and again without harm."""
