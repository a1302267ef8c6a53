"""This room draws what scoring found, and what the runs recorded, as one page that opens anywhere.

`scored` turns a leaderboard into what the page shows; `figure` describes charts as data, which
`svg` draws for the page and `pictures` as PNG; `page` puts all of it into one file.
"""
