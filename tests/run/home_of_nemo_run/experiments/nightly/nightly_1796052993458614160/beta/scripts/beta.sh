#!/usr/bin/bash
echo oops; exit 3