"""The words of the field as frozen dataclasses: stdlib only, no input or output. Every other room may import this one."""
