"""What is trained on in supervised fine-tuning and by reward models, and how it is chosen from what models write."""
