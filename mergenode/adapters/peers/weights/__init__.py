"""How weights travel: the shelf, serving, fetching, the exchange that mixers see."""
