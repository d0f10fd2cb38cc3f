#!/bin/sh
# Hook shutdown, when the root is unmounted: a last commit, and the media are free.
cowroot boot --stage=shutdown
