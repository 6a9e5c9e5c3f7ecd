#!/usr/bin/bash
echo trained