"""Why an image got its score: as data, in words and as a picture."""
