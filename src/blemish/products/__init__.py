"""Products that exist only on paper: drawn parts, with the defects one meets on real ones."""

from blemish.products.fabric import FABRIC_DEFECTS, draw_fabric
from blemish.products.plate import PLATE_DEFECTS, draw_plate

__all__ = ["FABRIC_DEFECTS", "PLATE_DEFECTS", "draw_fabric", "draw_plate"]
