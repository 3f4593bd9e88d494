// Package ownthread gives functions and programs threads of their own: what a function does to its thread, such as entering a network
// namespace, it does to nobody else; and a program that is to end with this process does not end with one of its threads before.
package ownthread
