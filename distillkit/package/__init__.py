"""A folder ready for the Hub: manifest, card, recipe.json, parquet; and the folder of a generator. May import all
of the above.
"""
